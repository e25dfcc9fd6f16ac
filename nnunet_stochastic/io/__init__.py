"""Reading and writing files, for every other part of the package: it imports none of them, nor torch or nnU-Net.

staging    the one way to write: hidden, checked, on the disk, renamed
written    has a file that a library wrote its end?
text       text and JSON
images     the one way to read images and label maps
nifti      what ITK's reader passes over in silence, and what it does not write back
itk        the same of NRRD, MetaImage and GIPL
grid       voxel grids: equal or not, a voxel's volume
folders    can a folder be written?
"""
