"""DICOM: series of slices in, segmentations and maps as DICOM objects out; nothing else imports pydicom or highdicom.

    folders          which folder is which case and channel
    headers          the header of one slice
    slices           the order of slices, and the grid that they form
    series           a folder of slices -> files in order, and their voxel grid; or what is wrong with it
    volume           series -> an image file, as SimpleITK's GDCM reader reads it
    grid             array of a prediction -> (slices, rows, columns) of the series, without resampling
    kinds            what can be made of a case
    objects          what all objects that are written share: identity, equipment, references
    segmentation     label map -> Segmentation (binary)
    fractional       probabilities -> Segmentation (fractional)
    codes            what each structure is, in codes
    parametric_map   map -> Parametric Map (float32)

Both libraries are those of the extra ``dicom``; ``require_libraries`` says so where they are missing.
"""
