"""DICOM: folders of slices as images; nothing else imports pydicom or highdicom.

    folders          which folder is which case and channel
    series           a folder of slices -> files in order, and their voxel grid; or what is wrong with it
    volume           series -> an image file, as SimpleITK's GDCM reader reads it

Both libraries are those of the extra ``dicom``; ``require_libraries`` says so where they are missing.
"""
